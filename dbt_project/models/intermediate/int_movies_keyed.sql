with matched as (

    select * from {{ ref('int_movies_matched') }}

),

keys as (

    select * from {{ ref('int_movie_keys') }}

),

title_keys as (

    select
        source_id as tconst,
        movie_key
    from keys
    where source = 'imdb'

),

-- Several rows a film where a title took the first key over: the newest that no title owns is the film's.
film_keys as (

    select
        source as edition,
        try_cast(split_part(source_id, '#', 1) as integer) as film_id,
        max(movie_key) as movie_key
    from keys
    where source != 'imdb' and movie_key not in (select title_keys.movie_key from title_keys)
    group by all

),

final as (

    select
        matched.*,
        coalesce(title_keys.movie_key, film_keys.movie_key) as movie_key
    from matched
    left join title_keys on matched.tconst = title_keys.tconst
    left join film_keys
        on
            matched.edition = film_keys.edition
            and matched.film_id = film_keys.film_id
            and matched.tconst is null

)

select * from final
