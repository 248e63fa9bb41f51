with ratings as (

    select * from {{ ref('int_ratings_keyed') }}

),

movies as (

    select * from {{ ref('movie_content') }}

),

-- Half stars as whole tenths: sums of integers are the same in whatever order the threads add them.
events as (

    select
        ratings.user_key,
        cast(ratings.rated_at as date) as rated_on,
        cast(ratings.rating * 10 as integer) as tenths,
        movies.release_year,
        {{ per_genre("movies.is_<g>") }}
    from ratings
    inner join movies on ratings.movie_key = movies.movie_key

),

days as (

    select
        user_key,
        rated_on,
        count(*) as rating_count,
        sum(tenths) as tenths,
        sum(tenths * tenths) as squared_tenths,
        count(*) filter (where tenths >= 40) as positive_count,
        count(release_year) as dated_count,
        sum(release_year) as release_years,
        {{ per_genre("sum(is_<g>) as <g>_count") }}
    from events
    group by user_key, rated_on

),

-- Running totals over all users one after the other, less what stood at each user's start: see movie_features.
ordered_days as (

    select
        user_key,
        rated_on,
        cast(rating_count as double) as rating_count,
        cast(tenths as double) as tenths,
        cast(squared_tenths as double) as squared_tenths,
        cast(positive_count as double) as positive_count,
        cast(dated_count as double) as dated_count,
        cast(coalesce(release_years, 0) as double) as release_years,
        {{ per_genre("cast(<g>_count as double) as <g>_count") }}
    from days
    order by user_key, rated_on

),

totals as (

    select
        *,
        count(*) over so_far as total_days,
        sum(rating_count) over so_far as total_count,
        sum(tenths) over so_far as total_tenths,
        sum(squared_tenths) over so_far as total_squared_tenths,
        sum(positive_count) over so_far as total_positive_count,
        sum(dated_count) over so_far as total_dated_count,
        sum(release_years) over so_far as total_release_years,
        {{ per_genre("sum(<g>_count) over so_far as total_<g>_count") }}
    from ordered_days
    window so_far as (rows between unbounded preceding and current row) -- noqa: PRS

),

starts as (

    select
        user_key,
        min(rated_on) as first_rated_on,
        min(total_days - 1) as total_days,
        min(total_count - rating_count) as total_count,
        min(total_tenths - tenths) as total_tenths,
        min(total_squared_tenths - squared_tenths) as total_squared_tenths,
        min(total_positive_count - positive_count) as total_positive_count,
        min(total_dated_count - dated_count) as total_dated_count,
        min(total_release_years - release_years) as total_release_years,
        {{ per_genre("min(total_<g>_count - <g>_count) as total_<g>_count") }}
    from totals
    group by user_key

),

running as (

    select
        totals.user_key,
        totals.rated_on,
        starts.first_rated_on,
        totals.total_days - starts.total_days as active_days,
        cast(totals.total_count - starts.total_count as bigint) as rating_count,
        cast(totals.total_tenths - starts.total_tenths as bigint) as tenths,
        cast(totals.total_squared_tenths - starts.total_squared_tenths as bigint) as squared_tenths,
        cast(totals.total_positive_count - starts.total_positive_count as bigint) as positive_count,
        cast(totals.total_dated_count - starts.total_dated_count as bigint) as dated_count,
        cast(totals.total_release_years - starts.total_release_years as bigint) as release_years,
        {{ per_genre("cast(totals.total_<g>_count - starts.total_<g>_count as bigint) as <g>_count") }}
    from totals
    inner join starts on totals.user_key = starts.user_key

),

-- The row holds from the midnight after its day on: all that it counts is strictly earlier.
final as (

    select
        user_key,
        cast(rated_on + 1 as timestamp) as feature_timestamp,
        cast(rating_count as integer) as rating_count,
        round(tenths / (10.0 * rating_count), 6) as rating_mean,
        round(sqrt(rating_count * squared_tenths - tenths * tenths) / (10.0 * rating_count), 6) as rating_stddev,
        round(positive_count / rating_count, 6) as positive_share,
        cast(active_days as integer) as active_days,
        cast(rated_on + 1 - first_rated_on as integer) as days_since_first,
        round(release_years / nullif(dated_count, 0), 6) as mean_release_year,
        {{ per_genre("round(<g>_count / rating_count, 6) as genre_share_<g>") }}
    from running

)

select * from final
