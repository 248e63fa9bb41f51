with movies as (

    select * from {{ ref('dim_movies') }}

),

final as (

    select
        movie_key,
        timestamp '1900-01-01' as feature_timestamp,
        year as release_year,
        runtime_minutes,
        {{ per_genre("cast(list_contains(genres, '<genre>') as integer) as is_<g>") }}
    from movies

)

select * from final
