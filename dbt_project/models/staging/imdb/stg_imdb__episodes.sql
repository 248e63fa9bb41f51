with source as (

    select * from {{ source('raw', 'imdb_title_episode') }}

),

final as (

    select
        tconst,
        "parentTconst" as parent_tconst,
        "seasonNumber" as season_number,
        "episodeNumber" as episode_number
    from source

)

select * from final
