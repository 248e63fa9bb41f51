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

-- Running totals over all films one after the other, less what stood at each film's start: DuckDB streams a sum over
-- rows as they come, but builds a tree for one that begins anew with each film, which takes four times as long. As
-- doubles, which hold whole numbers below 2**53 exactly: a sum of integers takes 16 bytes, and there are many rows.
ordered_days as (

    select
        movie_key,
        rated_on,
        cast(rating_count as double) as rating_count,
        cast(tenths as double) as tenths,
        cast(squared_tenths as double) as squared_tenths,
        cast(positive_count as double) as positive_count
    from days
    order by movie_key, rated_on

),

totals as (

    select
        *,
        sum(rating_count) over so_far as total_count,
        sum(tenths) over so_far as total_tenths,
        sum(squared_tenths) over so_far as total_squared_tenths,
        sum(positive_count) over so_far as total_positive_count
    from ordered_days
    window so_far as (rows between unbounded preceding and current row) -- noqa: PRS

),

starts as (

    select
        movie_key,
        min(rated_on) as first_rated_on,
        min(total_count - rating_count) as total_count,
        min(total_tenths - tenths) as total_tenths,
        min(total_squared_tenths - squared_tenths) as total_squared_tenths,
        min(total_positive_count - positive_count) as total_positive_count
    from totals
    group by movie_key

),

running as (

    select
        totals.movie_key,
        totals.rated_on,
        starts.first_rated_on,
        cast(totals.total_count - starts.total_count as bigint) as rating_count,
        cast(totals.total_tenths - starts.total_tenths as bigint) as tenths,
        cast(totals.total_squared_tenths - starts.total_squared_tenths as bigint) as squared_tenths,
        cast(totals.total_positive_count - starts.total_positive_count as bigint) as positive_count
    from totals
    inner join starts on totals.movie_key = starts.movie_key

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
