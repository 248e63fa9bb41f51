with matched as (

    select * from {{ ref('int_movies_matched') }}

),

crew as (

    select * from {{ ref('stg_imdb__crew') }}

),

principals as (

    select * from {{ ref('stg_imdb__principals') }}

),

titles as (

    select distinct tconst
    from matched
    where tconst is not null

),

film_crew as (

    select crew.*
    from crew
    inner join titles on crew.tconst = titles.tconst

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
        principals.tconst,
        principals.nconst,
        principals.category,
        principals.ordering,
        principals.job,
        principals.characters,
        cast(null as bigint) as crew_position
    from principals
    inner join titles on principals.tconst = titles.tconst
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
final as (

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

)

select * from final
