with credits as (

    select * from {{ ref('fct_credits') }}

),

movies as (

    select * from {{ ref('dim_movies') }}

),

names as (

    select * from {{ ref('stg_imdb__names') }}

),

-- One row a person and film: whoever wrote and directed it has made one film, and its ratings count once.
films as (

    select
        nconst,
        movie_key,
        bool_or(category = 'director') as directed,
        bool_or(category = 'writer') as wrote,
        bool_or(category in ('actor', 'actress')) as acted,
        bool_or(category not in ('director', 'writer', 'actor', 'actress')) as did_else
    from credits
    group by nconst, movie_key

),

careers as (

    select
        films.nconst,
        count(*) as movie_count,
        count(*) filter (where films.directed) as directed_count,
        count(*) filter (where films.wrote) as written_count,
        count(*) filter (where films.acted) as acted_count,
        count(*) filter (where films.did_else) as other_count,
        min(movies.year) as first_year,
        max(movies.year) as last_year,
        count(movies.bayesian_rating) as rated_movie_count,
        sum(movies.bayesian_rating) / count(movies.bayesian_rating) as rating_mean
    from films
    inner join movies on films.movie_key = movies.movie_key
    group by films.nconst

),

final as (

    select
        careers.nconst,
        names.name,
        names.birth_year,
        names.death_year,
        coalesce(names.professions, cast([] as varchar[])) as professions,
        coalesce(names.known_for_tconsts, cast([] as varchar[])) as known_for_tconsts,
        cast(careers.movie_count as integer) as movie_count,
        cast(careers.directed_count as integer) as directed_count,
        cast(careers.written_count as integer) as written_count,
        cast(careers.acted_count as integer) as acted_count,
        cast(careers.other_count as integer) as other_count,
        careers.first_year,
        careers.last_year,
        cast(careers.rated_movie_count as integer) as rated_movie_count,
        cast(careers.rating_mean as decimal(4, 3)) as rating_mean
    from careers
    left join names on careers.nconst = names.nconst

)

select * from final
