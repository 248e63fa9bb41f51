with source as (

    select * from {{ source('raw', 'imdb_title_crew') }}

),

final as (

    select
        tconst,
        case when directors is null then cast([] as varchar[]) else string_split(directors, ',') end as directors,
        case when writers is null then cast([] as varchar[]) else string_split(writers, ',') end as writers
    from source

)

select * from final
