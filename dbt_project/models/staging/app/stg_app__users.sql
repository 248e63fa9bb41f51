with source as (

    select * from {{ source('raw', 'app_users') }}

),

final as (

    select
        source,
        source_id,
        created_at
    from source

)

select * from final
