with keyed as (

    select * from {{ ref('int_movies_keyed') }}

),

imdb_only as (

    select * from {{ ref('int_imdb_only_films') }}

),

keys as (

    select * from {{ ref('int_movie_keys') }}

),

movie_ids as (

    select
        movie_key,
        list(movie_id order by movie_id) as movie_ids
    from keyed
    group by movie_key

),

held as (

    select
        keyed.movie_key,
        keyed.edition,
        keyed.movie_id,
        movie_ids.movie_ids,
        true as in_movielens,
        keyed.tconst,
        keyed.match_method,
        keyed.match_confidence,
        keyed.title,
        keyed.bracketed_titles,
        keyed.year,
        keyed.genres,
        keyed.url
    from keyed
    inner join movie_ids on keyed.movie_key = movie_ids.movie_key
    where keyed.is_lead

),

not_held as (

    select
        keys.movie_key,
        cast(null as varchar) as edition,
        cast(null as integer) as movie_id,
        cast([] as integer[]) as movie_ids,
        false as in_movielens,
        imdb_only.tconst,
        'imdb_only' as match_method,
        cast(1 as decimal(3, 2)) as match_confidence,
        cast(null as varchar) as title,
        cast([] as varchar[]) as bracketed_titles,
        cast(null as integer) as year,
        cast(null as varchar[]) as genres,
        cast(null as varchar) as url
    from imdb_only
    inner join keys on imdb_only.tconst = keys.source_id and keys.source = 'imdb'

),

final as (

    select * from held
    union all
    select * from not_held

)

select * from final
