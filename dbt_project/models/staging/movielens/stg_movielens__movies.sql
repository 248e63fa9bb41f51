with source as (

    select * from {{ source('raw', 'ml_movies') }}

),

without_year as (

    select
        edition,
        "movieId" as movie_id,
        title as source_title,
        genres as source_genres,
        "releaseDate" as release_date,
        url,
        try_cast(nullif(regexp_extract(title, {{ year_pattern() }}, 1), '') as integer) as title_year,
        trim(regexp_replace(title, {{ year_pattern() }}, '')) as full_title
    from source

),

bracketed as (

    select
        *,
        trim(regexp_replace(full_title, {{ trailing_brackets_pattern() }}, '')) as text_before,
        regexp_extract(full_title, {{ trailing_brackets_pattern() }}, 1) as brackets
    from without_year

),

split as (

    select
        *,
        -- "Birdman: Or (The Unexpected Virtue of Ignorance)": a bracket that ends the sentence belongs to it.
        text_before = '' or regexp_matches(text_before, '(?i)(?:[:-]|\bor)$') as is_whole
    from bracketed

),

final as (

    select
        edition,
        movie_id,
        source_title,
        case
            when full_title = '' then source_title
            when is_whole then {{ move_article('full_title') }}
            else {{ move_article('text_before') }}
        end as title,
        nullif(full_title, '') as full_title,
        case
            when is_whole then cast([] as varchar[])
            else regexp_extract_all(brackets, '\(([^()]*)\)', 1)
        end as bracketed_titles,
        coalesce(title_year, try_cast(nullif(regexp_extract(release_date, '(\d{4})$', 1), '') as integer)) as year,
        case
            when source_genres is null or source_genres in ('', '(no genres listed)') then cast([] as varchar[])
            else string_split(replace(source_genres, 'Children''s', 'Children'), '|')
        end as genres,
        nullif(trim(url), '') as url
    from split

)

select * from final
