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
        -- A JSON list as text: ["Rick","Ricky"].
        case
            when characters is not null and json_valid(characters) then json_extract_string(characters, '$[*]')
        end as characters
    from source

)

select * from final
