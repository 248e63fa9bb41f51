with source as (

    select * from {{ source('raw', 'ml_genome_tags') }}

),

final as (

    select
        edition,
        "tagId" as tag_id,
        trim(tag) as tag
    from source

)

select * from final
