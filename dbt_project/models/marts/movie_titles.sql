with films as (

    select * from {{ ref('int_films') }}

),

keyed as (

    select * from {{ ref('int_movies_keyed') }}

),

imdb_titles as (

    select * from {{ ref('int_catalogue_titles') }}

),

akas as (

    select * from {{ ref('stg_imdb__akas') }}

),

film_tconsts as (

    select
        movie_key,
        tconst
    from films
    where tconst is not null

),

film_akas as (

    select * from akas
    where tconst in (select film_tconsts.tconst from film_tconsts)

),

brackets as (

    select
        movie_key,
        trim(regexp_replace(unnest(bracketed_titles), '(?i)^\s*a\.?k\.?a\.?\s+', '')) as title
    from keyed

),

all_titles as (

    select
        film_tconsts.movie_key,
        imdb_titles.primary_title as title,
        cast(null as varchar) as region,
        cast(null as varchar) as language,
        'primary' as kind
    from film_tconsts
    inner join imdb_titles on film_tconsts.tconst = imdb_titles.tconst
    union all
    select
        film_tconsts.movie_key,
        imdb_titles.original_title as title,
        cast(null as varchar) as region,
        cast(null as varchar) as language,
        'original' as kind
    from film_tconsts
    inner join imdb_titles on film_tconsts.tconst = imdb_titles.tconst
    union all
    select
        movie_key,
        title,
        cast(null as varchar) as region,
        cast(null as varchar) as language,
        'edition' as kind
    from keyed
    union all
    select
        movie_key,
        {{ move_article('title') }} as title,
        cast(null as varchar) as region,
        cast(null as varchar) as language,
        'edition' as kind
    from brackets
    union all
    select
        film_tconsts.movie_key,
        film_akas.title,
        film_akas.region,
        film_akas.language,
        case when film_akas.is_original_title then 'original' else 'aka' end as kind
    from film_akas
    inner join film_tconsts on film_akas.tconst = film_tconsts.tconst

),

distinct_titles as (

    select distinct
        movie_key,
        title,
        region,
        language,
        kind
    from all_titles
    where trim(title) != ''

),

final as (

    select
        movie_key,
        cast(
            row_number() over (
                partition by movie_key
                order by
                    list_position(['primary', 'original', 'edition', 'aka'], kind) asc,
                    title asc,
                    region asc nulls first,
                    language asc nulls first
            ) as integer
        ) as title_number,
        title,
        {{ title_key('title') }} as title_key,
        region,
        language,
        kind
    from distinct_titles

)

select * from final
