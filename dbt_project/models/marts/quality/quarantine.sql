with refused as (

    select * from {{ source('raw', 'quarantine') }}

),

final as (

    select
        source,
        table_name,
        file,
        line,
        reason,
        content
    from refused

)

select * from final
