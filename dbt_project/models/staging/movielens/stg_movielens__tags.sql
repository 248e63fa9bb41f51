with source as (

    select * from {{ source('raw', 'ml_tags') }}

),

final as (

    select
        edition,
        "userId" as user_id,
        "movieId" as movie_id,
        trim(tag) as tag,
        make_timestamp("timestamp" * 1000000) as tagged_at
    from source

)

select * from final
