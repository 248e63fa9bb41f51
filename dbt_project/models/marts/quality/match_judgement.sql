with movies as (

    select * from {{ ref('int_movies_grouped') }}

),

titles as (

    select * from {{ ref('stg_imdb__titles') }}

),

keyed as (

    select * from {{ ref('int_movies_keyed') }}

),

linking as (

    select distinct edition
    from movies
    where linked_tconst is not null

),

-- An edition that links nothing has nothing to be judged by, and IMDb need not be gone through for it.
unlinked as (

    select
        edition,
        movie_id,
        cast(null as varchar) as linked_tconst,
        title,
        full_title,
        bracketed_titles,
        title_key,
        year,
        genres,
        url,
        rating_count
    from movies
    where edition in (select linking.edition from linking)

),

unlinked_movies as (

    {{ movie_groups('unlinked') }}

),

unlinked_titles as (

    {{ movie_titles('unlinked_movies') }}

),

unlinked_candidates as (

    {{ movie_candidates('unlinked_titles', 'unlinked_movies') }}

),

unlinked_matches as (

    {{ movie_matches('unlinked_movies', 'unlinked_candidates') }}

),

judged as (

    select
        movies.edition,
        movies.movie_id,
        keyed.movie_key,
        movies.title,
        movies.year,
        movies.linked_tconst,
        movies.linked_tconst in (select titles.tconst from titles) as is_in_imdb,
        unlinked_matches.tconst as found_tconst,
        unlinked_matches.match_method,
        unlinked_matches.match_confidence
    from movies
    inner join unlinked_matches
        on movies.edition = unlinked_matches.edition and movies.movie_id = unlinked_matches.movie_id
    inner join keyed on movies.edition = keyed.edition and movies.movie_id = keyed.movie_id
    where movies.linked_tconst is not null

),

final as (

    select
        *,
        case
            when found_tconst = linked_tconst then 'right'
            when found_tconst is not null then 'wrong'
            when is_in_imdb then 'missed'
            else 'absent'
        end as verdict
    from judged

)

select * from final
