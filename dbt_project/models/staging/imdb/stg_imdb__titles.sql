with source as (

    select * from {{ source('raw', 'imdb_title_basics') }}

),

final as (

    select
        tconst,
        "titleType" as title_type,
        -- An unknown type is not a non-film: only types known to be something else are.
        coalesce(
            "titleType" not in (
                'tvEpisode', 'tvSeries', 'tvMiniSeries', 'tvPilot', 'videoGame', 'radioSeries', 'radioEpisode',
                'podcastSeries', 'podcastEpisode', 'musicVideo', 'audiobook'
            ),
            true
        ) as is_film,
        "primaryTitle" as primary_title,
        "originalTitle" as original_title,
        "isAdult" as is_adult,
        "startYear" as start_year,
        "endYear" as end_year,
        "runtimeMinutes" as runtime_minutes,
        case when genres is null then cast([] as varchar[]) else string_split(genres, ',') end as genres
    from source

)

select * from final
