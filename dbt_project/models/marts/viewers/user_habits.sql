with ratings as (

    select
        user_key,
        movie_key,
        rated_at,
        cast(rating * 10 as integer) as tenths
    from {{ ref('fct_ratings') }}
    where edition != 'streaming'

),

movies as (

    select * from {{ ref('dim_movies') }}

),

content as (

    select * from {{ ref('movie_content') }}

),

starts as (

    select * from {{ ref('int_user_starts') }}

),

tastes as (

    select * from {{ ref('user_taste') }}
    where dimension = 'genre'

),

-- Recency is counted from the last rating of the source that the user came by: an edition of 1998 is not out of date.
sources as (

    select
        edition,
        max(last_rated_at) as ends_at
    from starts
    group by edition

),

films as (

    select
        movies.movie_key,
        movies.year,
        movies.rating_count,
        {{ per_genre("content.is_<g>") }}
    from movies
    inner join content on movies.movie_key = content.movie_key

),

habits as (

    select
        ratings.user_key,
        count(*) as rating_count,
        count(distinct cast(ratings.rated_at as date)) as active_days,
        sum(ratings.tenths) as tenths,
        count(*) filter (where ratings.tenths >= 40) as positives,
        sum(films.year) / nullif(count(films.year), 0) as mean_release_year,
        sum(films.rating_count) / count(*) as film_rating_count,
        {{ per_genre("sum(films.is_<g>) / count(*) as genre_share_<g>") }}
    from ratings
    inner join films on ratings.movie_key = films.movie_key
    group by ratings.user_key

),

favourites as (

    select
        user_key,
        label as favourite_genre
    from tastes
    qualify row_number() over (partition by user_key order by share - base_share desc, label) = 1

),

final as (

    select
        habits.user_key,
        starts.edition,
        cast(habits.rating_count as integer) as rating_count,
        cast(habits.active_days as integer) as active_days,
        round(habits.rating_count / habits.active_days, 6) as ratings_per_day,
        cast(date_diff('day', cast(starts.first_rated_at as date), cast(starts.last_rated_at as date)) as integer)
            as tenure_days,
        cast(date_diff('day', cast(starts.last_rated_at as date), cast(sources.ends_at as date)) as integer)
            as days_since_last,
        round(habits.tenths / (10.0 * habits.rating_count), 6) as rating_mean,
        round(habits.positives / habits.rating_count, 6) as positive_share,
        round(habits.mean_release_year, 6) as mean_release_year,
        round(habits.film_rating_count, 6) as film_rating_count,
        favourites.favourite_genre,
        {{ per_genre("round(habits.genre_share_<g>, 6) as genre_share_<g>") }}
    from habits
    inner join starts on habits.user_key = starts.user_key
    inner join sources on starts.edition = sources.edition
    left join favourites on habits.user_key = favourites.user_key

)

select * from final
