with ratings as (

    select * from {{ ref('int_ratings_keyed') }}

),

-- Half stars as whole tenths: sums of integers are the same in whatever order the threads add them.
events as (

    select
        movie_key,
        cast(rated_at as date) as rated_on,
        cast(rating * 10 as integer) as tenths
    from ratings

),

days as (

    select
        movie_key,
        rated_on,
        count(*) as rating_count,
        sum(tenths) as tenths,
        sum(tenths * tenths) as squared_tenths,
        count(*) filter (where tenths >= 40) as positive_count
    from events
    group by movie_key, rated_on

),

running as (

    select
        movie_key,
        rated_on,
        min(rated_on) over so_far as first_rated_on,
        cast(sum(rating_count) over so_far as bigint) as rating_count,
        cast(sum(tenths) over so_far as bigint) as tenths,
        cast(sum(squared_tenths) over so_far as bigint) as squared_tenths,
        cast(sum(positive_count) over so_far as bigint) as positive_count
    from days
    window so_far as (partition by movie_key order by rated_on rows between unbounded preceding and current row)

),

-- The row holds from the midnight after its day on: all that it counts is strictly earlier.
final as (

    select
        movie_key,
        cast(rated_on + 1 as timestamp) as feature_timestamp,
        cast(rating_count as integer) as rating_count,
        round(tenths / (10.0 * rating_count), 6) as rating_mean,
        round(sqrt(rating_count * squared_tenths - tenths * tenths) / (10.0 * rating_count), 6) as rating_stddev,
        round(positive_count / rating_count, 6) as positive_share,
        cast(rated_on + 1 - first_rated_on as integer) as days_since_first
    from running

)

select * from final
