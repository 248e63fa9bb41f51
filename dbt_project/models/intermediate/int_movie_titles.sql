with movies as (

    select * from {{ ref('int_movies_grouped') }}
    where linked_tconst is null and year is not null

),

main_titles as (

    select
        edition,
        film_id,
        year,
        unnest([title, full_title, {{ move_article('full_title') }}]) as title
    from movies

),

brackets as (

    select
        edition,
        film_id,
        year,
        unnest(bracketed_titles) as bracket
    from movies

),

bracketed_titles as (

    select
        edition,
        film_id,
        year,
        trim(regexp_replace(bracket, '(?i)^\s*a\.?k\.?a\.?\s+', '')) as title,
        regexp_matches(bracket, '(?i)^\s*a\.?k\.?a\.?\s') as is_aka
    from brackets

),

-- "(a.k.a. All I Wanna Do, The Hairy Bird)" names two.
aka_parts as (

    select
        edition,
        film_id,
        year,
        unnest(string_split(title, ', ')) as title
    from bracketed_titles
    where is_aka and title like '%, %'

),

all_titles as (

    select
        edition,
        film_id,
        year,
        title,
        'main' as title_role
    from main_titles
    union all
    select
        edition,
        film_id,
        year,
        {{ move_article('title') }} as title,
        'alternative' as title_role
    from bracketed_titles
    union all
    select
        edition,
        film_id,
        year,
        title,
        'alternative' as title_role
    from aka_parts

),

keyed as (

    select
        edition,
        film_id,
        year,
        title_role,
        {{ title_key('title') }} as title_key
    from all_titles

),

final as (

    select
        edition,
        film_id,
        year,
        title_key,
        max(title_role) as title_role
    from keyed
    where length(title_key) > 1
    group by all

)

select * from final
