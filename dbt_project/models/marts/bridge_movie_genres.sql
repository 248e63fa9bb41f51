with movies as (

    select * from {{ ref('dim_movies') }}

),

unnested as (

    select
        movie_key,
        unnest(genres) as genre
    from movies

),

final as (

    select distinct
        movie_key,
        genre
    from unnested

)

select * from final
