with ratings as (

    select
        user_key,
        movie_key,
        rated_at,
        cast(rating * 10 as integer) as tenths
    from {{ ref('fct_ratings') }}

),

-- Half an hour without a rating ends a session.
marked as (

    select
        *,
        coalesce(
            rated_at - lag(rated_at) over (partition by user_key order by rated_at, movie_key) > interval 30 minute,
            true
        ) as is_start
    from ratings

),

numbered as (

    select
        user_key,
        rated_at,
        tenths,
        cast(
            sum(cast(is_start as integer)) over (
                partition by user_key
                order by rated_at, movie_key
                rows between unbounded preceding and current row
            ) as integer
        ) as session_number
    from marked

),

final as (

    select
        user_key,
        session_number,
        min(rated_at) as started_at,
        max(rated_at) as ended_at,
        cast(count(*) as integer) as rating_count,
        cast(sum(tenths) / (10.0 * count(*)) as decimal(4, 3)) as rating_mean
    from numbered
    group by user_key, session_number

)

select * from final
