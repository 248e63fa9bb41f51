with source as (

    select * from {{ source('raw', 'streaming_ratings') }}

),

final as (

    select
        "userId" as user_id,
        "movieId" as title_id,
        rating,
        make_timestamp("timestamp" * 1000000) as rated_at
    from source

)

select * from final
