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

running as (

    select
        user_key,
        rated_on,
        min(rated_on) over so_far as first_rated_on,
        count(*) over so_far as active_days,
        cast(sum(rating_count) over so_far as bigint) as rating_count,
        cast(sum(tenths) over so_far as bigint) as tenths,
        cast(sum(squared_tenths) over so_far as bigint) as squared_tenths,
        cast(sum(positive_count) over so_far as bigint) as positive_count,
        cast(sum(dated_count) over so_far as bigint) as dated_count,
        cast(sum(release_years) over so_far as bigint) as release_years,
        {{ per_genre("cast(sum(<g>_count) over so_far as bigint) as <g>_count") }}
    from days
    window so_far as (partition by user_key order by rated_on rows between unbounded preceding and current row)

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
