{{ config(meta={'dagster': {'ref': {'name': 'dim_movies'}}}) }}
-- Each movieId that is described, rated or tagged is in the movie_ids of exactly one row of dim_movies.
with movies as (

    select
        edition,
        unnest(movie_ids) as movie_id
    from {{ ref('dim_movies') }}

),

ids as (

    select
        edition,
        movie_id
    from {{ ref('stg_movielens__movies') }}
    union
    select
        edition,
        movie_id
    from {{ ref('stg_movielens__ratings') }}
    union
    select
        edition,
        movie_id
    from {{ ref('stg_movielens__tags') }}

),

final as (

    select
        ids.edition,
        ids.movie_id,
        count(movies.movie_id) as films
    from ids
    left join movies on ids.edition = movies.edition and ids.movie_id = movies.movie_id
    group by ids.edition, ids.movie_id
    having count(movies.movie_id) != 1

)

select * from final
