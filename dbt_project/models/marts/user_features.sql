with ratings as (

    select * from {{ ref('int_ratings_keyed') }}

),

replaced as (

    select * from {{ ref('int_replaced_ratings') }}

),

movies as (

    select * from {{ ref('movie_content') }}

),

-- Half stars as whole tenths: sums of integers are the same in whatever order the threads add them.
given as (

    select
        ratings.user_key,
        cast(ratings.rated_at as date) as rated_on,
        cast(ratings.rating * 10 as integer) as tenths,
        movies.release_year,
        {{ per_genre("movies.is_<g>") }}
    from ratings
    inner join movies on ratings.movie_key = movies.movie_key

),

taken_back as (

    select
        replaced.user_key,
        cast(replaced.replaced_at as date) as rated_on,
        cast(replaced.rating * 10 as integer) as tenths,
        movies.release_year,
        {{ per_genre("movies.is_<g>") }}
    from replaced
    inner join movies on replaced.movie_key = movies.movie_key

),

-- A rating is added on its day, and taken away on the day on which the user rated the movie again.
events as (

    select
        user_key,
        rated_on,
        1 as rating_count,
        tenths,
        tenths * tenths as squared_tenths,
        cast(tenths >= 40 as integer) as positive_count,
        cast(release_year is not null as integer) as dated_count,
        release_year,
        {{ per_genre("is_<g>") }}
    from given
    union all
    select
        user_key,
        rated_on,
        -1 as rating_count,
        -tenths as tenths,
        -tenths * tenths as squared_tenths,
        -cast(tenths >= 40 as integer) as positive_count,
        -cast(release_year is not null as integer) as dated_count,
        -release_year as release_year,
        {{ per_genre("-is_<g> as is_<g>") }}
    from taken_back

),

days as (

    select
        user_key,
        rated_on,
        sum(rating_count) as rating_count,
        sum(tenths) as tenths,
        sum(squared_tenths) as squared_tenths,
        sum(positive_count) as positive_count,
        sum(dated_count) as dated_count,
        sum(release_year) as release_years,
        {{ per_genre("sum(is_<g>) as <g>_count") }}
    from events
    group by user_key, rated_on

),

{{ standing_days('user_key') }},

ended_days as (

    select
        user_key,
        stands_until as rated_on,
        count(*) as day_count
    from standing_days
    where stands_until < date 'infinity'
    group by all

),

-- Running totals over all users one after the other, less what stood at each user's start: see movie_features.
ordered_days as (

    select
        days.user_key,
        days.rated_on,
        cast(1 - coalesce(ended_days.day_count, 0) as double) as active_days,
        cast(coalesce(first_moves.moved_days, 0) as double) as moved_days,
        cast(days.rating_count as double) as rating_count,
        cast(days.tenths as double) as tenths,
        cast(days.squared_tenths as double) as squared_tenths,
        cast(days.positive_count as double) as positive_count,
        cast(days.dated_count as double) as dated_count,
        cast(coalesce(days.release_years, 0) as double) as release_years,
        {{ per_genre("cast(days.<g>_count as double) as <g>_count") }}
    from days
    left join ended_days on days.user_key = ended_days.user_key and days.rated_on = ended_days.rated_on
    left join first_moves on days.user_key = first_moves.user_key and days.rated_on = first_moves.rated_on
    order by days.user_key, days.rated_on

),

totals as (

    select
        *,
        sum(active_days) over so_far as total_days,
        sum(moved_days) over so_far as total_moved_days,
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

-- What stands is never less than nothing, so a total before a row is least before the first row of the user.
starts as (

    select
        user_key,
        min(rated_on) as first_rated_on,
        min(total_days - active_days) as total_days,
        min(total_moved_days - moved_days) as total_moved_days,
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
        starts.first_rated_on + cast(totals.total_moved_days - starts.total_moved_days as integer) as first_rated_on,
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
