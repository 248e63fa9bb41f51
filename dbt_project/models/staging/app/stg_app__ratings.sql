with source as (

    select * from {{ source('raw', 'app_ratings') }}

),

final as (

    select
        source,
        source_id,
        movie_key,
        movie_id,
        rating,
        date_trunc('second', rated_at) as rated_at
    from source

)

select * from final
