with credits as (

    select * from {{ ref('int_credits') }}

),

films as (

    select * from {{ ref('int_films') }}

),

final as (

    select
        films.movie_key,
        credits.tconst,
        credits.nconst,
        credits.person_name,
        credits.category,
        credits.ordering,
        credits.job,
        credits.characters
    from credits
    inner join films on credits.tconst = films.tconst

)

select * from final
