with source as (

    select * from {{ source('raw', 'imdb_title_akas') }}

),

final as (

    select
        "titleId" as tconst,
        ordering,
        title,
        region,
        language,
        types,
        attributes,
        "isOriginalTitle" as is_original_title
    from source

)

select * from final
