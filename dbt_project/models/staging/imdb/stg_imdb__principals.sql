with source as (

    select * from {{ source('raw', 'imdb_title_principals') }}

),

final as (

    select
        tconst,
        ordering,
        nconst,
        category,
        job,
        characters
    from source

)

select * from final
