with ratings as (

    select
        movie_key,
        cast(date_trunc('month', rated_at) as date) as month,
        cast(rating * 10 as integer) as tenths
    from {{ ref('fct_ratings') }}
    where edition != 'streaming'

),

months as (

    select
        movie_key,
        month,
        count(*) as rating_count,
        sum(tenths) as tenths
    from ratings
    group by movie_key, month

),

-- A month without a rating has no row, so a month is counted for the three that follow it, one row each, and summed:
-- linear, where a join of a month with those before it is not.
counted as (

    select
        movie_key,
        month,
        rating_count,
        tenths,
        0 as rating_count_before
    from months
    union all
    select
        movie_key,
        cast(month + to_months(cast(unnest([1, 2, 3]) as integer)) as date) as month,
        0 as rating_count,
        0 as tenths,
        rating_count as rating_count_before
    from months

),

final as (

    select
        movie_key,
        month,
        cast(sum(rating_count) as integer) as rating_count,
        cast(sum(tenths) / (10.0 * sum(rating_count)) as decimal(4, 3)) as rating_mean,
        cast(sum(rating_count_before) as integer) as rating_count_before,
        cast((3 * sum(rating_count) - sum(rating_count_before)) / 3.0 as decimal(12, 2)) as trend
    from counted
    group by movie_key, month
    having sum(rating_count) > 0

)

select * from final
