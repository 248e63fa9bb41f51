with source as (

    select * from {{ source('raw', 'app_events') }}

),

final as (

    select
        event_id,
        subject,
        kind,
        movie_key,
        rating,
        happened_at
    from source

)

select * from final
