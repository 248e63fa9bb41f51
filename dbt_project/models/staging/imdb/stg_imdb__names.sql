with source as (

    select * from {{ source('raw', 'imdb_name_basics') }}

),

final as (

    select
        nconst,
        "primaryName" as name,
        "birthYear" as birth_year,
        "deathYear" as death_year,
        case
            when "primaryProfession" is null then cast([] as varchar[])
            else string_split("primaryProfession", ',')
        end as professions,
        case
            when "knownForTitles" is null then cast([] as varchar[])
            else string_split("knownForTitles", ',')
        end as known_for_tconsts
    from source

)

select * from final
