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

-- Two ids are one film when they link to the same title or, without links, agree in title, year and genres: the last
-- keeps "War of the Worlds (2005)" of Spielberg apart from its namesake of the same year.
labelled as (

    select
        *,
        case
            when linked_tconst is not null then linked_tconst
            when title_key != '' and year is not null
                then title_key || '|' || year || '|' || array_to_string(list_sort(genres), ',')
            else 'id ' || movie_id
        end as film_label
    from described

),

final as (

    select
        edition,
        movie_id,
        cast(min(movie_id) over (partition by edition, film_label) as integer) as film_id,
        row_number() over (partition by edition, film_label order by rating_count desc, movie_id asc) = 1 as is_lead,
        linked_tconst,
        title,
        full_title,
        bracketed_titles,
        title_key,
        year,
        genres,
        url,
        rating_count
    from labelled

)

select * from final
