with credits as (

    select * from {{ ref('int_credits') }}

),

movies as (

    select distinct
        movie_key,
        tconst
    from {{ ref('int_movies_keyed') }}
    where tconst is not null

),

names as (

    select * from {{ ref('stg_imdb__names') }}

),

final as (

    select
        movies.movie_key,
        credits.tconst,
        credits.nconst,
        names.name as person_name,
        credits.category,
        credits.ordering,
        credits.job,
        credits.characters
    from credits
    inner join movies on credits.tconst = movies.tconst
    left join names on credits.nconst = names.nconst

)

select * from final
