with credits as (

    select * from {{ ref('fct_credits') }}

),

names as (

    select * from {{ ref('stg_imdb__names') }}

),

people as (

    select
        nconst,
        count(distinct movie_key) as movie_count
    from credits
    group by nconst

),

final as (

    select
        people.nconst,
        names.name,
        names.birth_year,
        names.death_year,
        coalesce(names.professions, cast([] as varchar[])) as professions,
        coalesce(names.known_for_tconsts, cast([] as varchar[])) as known_for_tconsts,
        cast(people.movie_count as integer) as movie_count
    from people
    left join names on people.nconst = names.nconst

)

select * from final
