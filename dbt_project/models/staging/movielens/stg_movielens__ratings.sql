with source as (

    select * from {{ source('raw', 'ml_ratings') }}

),

final as (

    select
        edition,
        "userId" as user_id,
        "movieId" as movie_id,
        rating,
        make_timestamp("timestamp" * 1000000) as rated_at
    from source

)

select * from final
