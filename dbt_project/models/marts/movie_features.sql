with ratings as (

    select * from {{ ref('int_ratings_keyed') }}

),

replaced as (

    select * from {{ ref('int_replaced_ratings') }}

),

-- A rating is added on its day, and taken away on the day on which the user rated the movie again. Half stars as whole
-- tenths: sums of integers are the same in whatever order the threads add them.
events as (

    select
        movie_key,
        cast(rated_at as date) as rated_on,
        1 as rating_count,
        cast(rating * 10 as integer) as tenths,
        cast(rating >= 4 as integer) as positive_count
    from ratings
    union all
    select
        movie_key,
        cast(replaced_at as date) as rated_on,
        -1 as rating_count,
        -cast(rating * 10 as integer) as tenths,
        -cast(rating >= 4 as integer) as positive_count
    from replaced

),

days as (

    select
        movie_key,
        rated_on,
        sum(rating_count) as rating_count,
        sum(tenths) as tenths,
        sum(rating_count * tenths * tenths) as squared_tenths,
        sum(positive_count) as positive_count
    from events
    group by movie_key, rated_on

),

{{ standing_days('movie_key') }},

-- Running totals over all films one after the other, less what stood at each film's start: DuckDB streams a sum over
-- rows as they come, but builds a tree for one that begins anew with each film, which takes four times as long. As
-- doubles, which hold whole numbers below 2**53 exactly: a sum of integers takes 16 bytes, and there are many rows.
ordered_days as (

    select
        days.movie_key,
        days.rated_on,
        cast(coalesce(first_moves.moved_days, 0) as double) as moved_days,
        cast(days.rating_count as double) as rating_count,
        cast(days.tenths as double) as tenths,
        cast(days.squared_tenths as double) as squared_tenths,
        cast(days.positive_count as double) as positive_count
    from days
    left join first_moves on days.movie_key = first_moves.movie_key and days.rated_on = first_moves.rated_on
    order by days.movie_key, days.rated_on

),

totals as (

    select
        *,
        sum(moved_days) over so_far as total_moved_days,
        sum(rating_count) over so_far as total_count,
        sum(tenths) over so_far as total_tenths,
        sum(squared_tenths) over so_far as total_squared_tenths,
        sum(positive_count) over so_far as total_positive_count
    from ordered_days
    window so_far as (rows between unbounded preceding and current row) -- noqa: PRS

),

-- What stands is never less than nothing, so a total before a row is least before the first row of the movie.
starts as (

    select
        movie_key,
        min(rated_on) as first_rated_on,
        min(total_moved_days - moved_days) as total_moved_days,
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
        starts.first_rated_on + cast(totals.total_moved_days - starts.total_moved_days as integer) as first_rated_on,
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
