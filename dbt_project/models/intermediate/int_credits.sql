with films as (

    select * from {{ ref('int_films') }}

),

crew as (

    select * from {{ ref('stg_imdb__crew') }}

),

principals as (

    select * from {{ ref('stg_imdb__principals') }}

),

names as (

    select * from {{ ref('stg_imdb__names') }}

),

titles as (

    select tconst
    from films
    where tconst is not null

),

film_crew as (

    select * from crew
    where tconst in (select titles.tconst from titles)

),

film_principals as (

    select * from principals
    where tconst in (select titles.tconst from titles)

),

crew_credits as (

    select
        tconst,
        'director' as category,
        unnest(directors) as nconst,
        generate_subscripts(directors, 1) as crew_position
    from film_crew
    union all
    select
        tconst,
        'writer' as category,
        unnest(writers) as nconst,
        generate_subscripts(writers, 1) as crew_position
    from film_crew

),

credits as (

    select
        tconst,
        nconst,
        category,
        ordering,
        job,
        -- A JSON list as text: ["Rick","Ricky"]. Read here, of the catalogue's rows alone: the dump has 90 million.
        case
            when characters is not null and json_valid(characters) then json_extract_string(characters, '$[*]')
        end as characters,
        cast(null as bigint) as crew_position
    from film_principals
    union all
    select
        tconst,
        nconst,
        category,
        cast(null as integer) as ordering,
        cast(null as varchar) as job,
        cast(null as varchar[]) as characters,
        crew_position
    from crew_credits

),

-- One person may hold several jobs of one category in one film; the first named stands for them.
first_credits as (

    select
        tconst,
        nconst,
        category,
        min(ordering) as ordering,
        arg_min(job, ordering) as job,
        arg_min(characters, ordering) as characters,
        cast(min(crew_position) as integer) as crew_position
    from credits
    where nconst is not null and category is not null
    group by tconst, nconst, category

),

people as (

    select
        nconst,
        name
    from names
    where nconst in (select first_credits.nconst from first_credits)

),

final as (

    select
        first_credits.*,
        people.name as person_name
    from first_credits
    left join people on first_credits.nconst = people.nconst

)

select * from final
