with movies as (

    select * from {{ ref('int_movies_grouped') }}

),

candidates as (

    select * from {{ ref('int_movie_candidates') }}

),

film_ratings as (

    select
        edition,
        film_id,
        sum(rating_count) as rating_count
    from movies
    group by all

),

linked as (

    select distinct
        edition,
        film_id,
        linked_tconst as tconst,
        'link' as match_method,
        cast(1 as decimal(3, 2)) as match_confidence
    from movies
    where linked_tconst is not null

),

-- A title that a link names is taken; among films that claim the same title the better method wins, then the film that
-- more people rated. Who loses stays unmatched: a second choice would be a guess.
claims as (

    select
        candidates.*,
        row_number() over (
            partition by candidates.edition, candidates.tconst
            order by candidates.match_rank asc, film_ratings.rating_count desc, candidates.film_id asc
        ) as claim_order
    from candidates
    inner join film_ratings
        on candidates.edition = film_ratings.edition and candidates.film_id = film_ratings.film_id
    left join linked on candidates.edition = linked.edition and candidates.tconst = linked.tconst
    where candidates.preference = 1 and linked.tconst is null

),

titled as (

    select
        edition,
        film_id,
        tconst,
        match_method,
        cast(
            case match_rank when 1 then 0.95 when 2 then 0.85 when 3 then 0.70 else 0.60 end
            - if(rivals > 1, 0.10, 0) as decimal(3, 2)
        ) as match_confidence
    from claims
    where claim_order = 1

),

matches as (

    select * from linked
    union all
    select * from titled

),

final as (

    select
        movies.edition,
        movies.movie_id,
        movies.film_id,
        movies.is_lead,
        matches.tconst,
        coalesce(matches.match_method, 'unmatched') as match_method,
        cast(coalesce(matches.match_confidence, 0) as decimal(3, 2)) as match_confidence,
        movies.title,
        movies.bracketed_titles,
        movies.year,
        movies.genres,
        movies.url
    from movies
    left join matches on movies.edition = matches.edition and movies.film_id = matches.film_id

)

select * from final
