with episodes as (

    select * from {{ ref('int_episodes') }}

),

films as (

    select * from {{ ref('int_films') }}

),

titles as (

    select * from {{ ref('int_catalogue_titles') }}

),

imdb_ratings as (

    select * from {{ ref('stg_imdb__ratings') }}

),

final as (

    select
        episodes.tconst,
        episodes.parent_tconst as series_tconst,
        series_films.movie_key as series_key,
        own_films.movie_key,
        series_titles.primary_title as series_title,
        episodes.season_number,
        episodes.episode_number,
        own_titles.primary_title as title,
        own_titles.start_year as year,
        imdb_ratings.average_rating as imdb_rating,
        imdb_ratings.num_votes as imdb_votes
    from episodes
    left join films as series_films on episodes.parent_tconst = series_films.tconst
    left join films as own_films on episodes.tconst = own_films.tconst
    left join titles as series_titles on episodes.parent_tconst = series_titles.tconst
    left join titles as own_titles on episodes.tconst = own_titles.tconst
    left join imdb_ratings on episodes.tconst = imdb_ratings.tconst

)

select * from final
