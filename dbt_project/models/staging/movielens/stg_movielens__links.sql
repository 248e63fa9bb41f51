with source as (

    select * from {{ source('raw', 'ml_links') }}

),

final as (

    select
        edition,
        "movieId" as movie_id,
        -- IMDb's ids have seven digits at least; since 2018 there are some of eight.
        case
            when regexp_full_match(trim("imdbId"), '\d+') and length(trim("imdbId")) <= 7
                then 'tt' || lpad(trim("imdbId"), 7, '0')
            when regexp_full_match(trim("imdbId"), '\d+') then 'tt' || trim("imdbId")
        end as tconst,
        "tmdbId" as tmdb_id
    from source

)

select * from final
