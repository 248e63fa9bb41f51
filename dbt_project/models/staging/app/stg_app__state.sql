with source as (

    select * from {{ source('raw', 'app_state') }}

),

final as (

    select last_event_id
    from source

)

select * from final
