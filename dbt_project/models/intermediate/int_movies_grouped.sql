with movies as (

    select * from {{ ref('stg_movielens__movies') }}

),

links as (

    select * from {{ ref('stg_movielens__links') }}

),

ratings as (

    select * from {{ ref('stg_movielens__ratings') }}

),

tags as (

    select * from {{ ref('stg_movielens__tags') }}

),

rating_counts as (

    select
        edition,
        movie_id,
        count(*) as rating_count
    from ratings
    group by all

),

-- A rated film stays a film where its own row was broken and went to quarantine.
ids as (

    select
        edition,
        movie_id
    from movies
    union
    select
        edition,
        movie_id
    from rating_counts
    union
    select
        edition,
        movie_id
    from tags

),

described as (

    select
        ids.edition,
        ids.movie_id,
        movies.title,
        movies.full_title,
        movies.bracketed_titles,
        movies.year,
        movies.genres,
        movies.url,
        links.tconst as linked_tconst,
        coalesce(rating_counts.rating_count, 0) as rating_count,
        {{ title_key('movies.title') }} as title_key
    from ids
    left join movies on ids.edition = movies.edition and ids.movie_id = movies.movie_id
    left join links on ids.edition = links.edition and ids.movie_id = links.movie_id
    left join rating_counts on ids.edition = rating_counts.edition and ids.movie_id = rating_counts.movie_id

),

final as (

    {{ movie_groups('described') }}

)

select * from final
