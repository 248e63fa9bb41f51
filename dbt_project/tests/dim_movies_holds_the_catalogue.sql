{{ config(meta={'dagster': {'ref': {'name': 'dim_movies'}}}) }}
-- The films of int_films, to which the keys of facts and bridges lead, are those of dim_movies: none more, none less.
with catalogue as (

    select movie_key from {{ ref('int_films') }}

),

dimension as (

    select movie_key from {{ ref('dim_movies') }}

),

final as (

    select coalesce(catalogue.movie_key, dimension.movie_key) as movie_key
    from catalogue
    full outer join dimension on catalogue.movie_key = dimension.movie_key
    where catalogue.movie_key is null or dimension.movie_key is null

)

select * from final
