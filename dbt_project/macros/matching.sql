{#-
    Which title of IMDb a film of MovieLens is, as queries that are asked twice: of the edition as it is, by the
    intermediate models, and of the edition with its links held back, by the mart that judges the matching.
-#}

{#- The titles that a film without a link may have: its main ones, and those in brackets. -#}
{% macro movie_titles(movies) -%}
with movies as (

    select * from {{ movies }}
    where linked_tconst is null and year is not null

),

main_titles as (

    select
        edition,
        film_id,
        year,
        unnest([title, full_title, {{ move_article('full_title') }}]) as title
    from movies

),

brackets as (

    select
        edition,
        film_id,
        year,
        unnest(bracketed_titles) as bracket
    from movies

),

bracketed_titles as (

    select
        edition,
        film_id,
        year,
        trim(regexp_replace(bracket, '(?i)^\s*a\.?k\.?a\.?\s+', '')) as title,
        regexp_matches(bracket, '(?i)^\s*a\.?k\.?a\.?\s') as is_aka
    from brackets

),

-- "(a.k.a. All I Wanna Do, The Hairy Bird)" names two.
aka_parts as (

    select
        edition,
        film_id,
        year,
        unnest(string_split(title, ', ')) as title
    from bracketed_titles
    where is_aka and title like '%, %'

),

all_titles as (

    select
        edition,
        film_id,
        year,
        title,
        'main' as title_role
    from main_titles
    union all
    select
        edition,
        film_id,
        year,
        {{ move_article('title') }} as title,
        'alternative' as title_role
    from bracketed_titles
    union all
    select
        edition,
        film_id,
        year,
        title,
        'alternative' as title_role
    from aka_parts

),

keyed as (

    select
        edition,
        film_id,
        year,
        title_role,
        {{ title_key('title') }} as title_key
    from all_titles

),

final as (

    select
        edition,
        film_id,
        year,
        title_key,
        max(title_role) as title_role
    from keyed
    where length(title_key) > 1
    group by all

)

select * from final
{%- endmacro %}

{#- IMDb's titles that fit those of a film and its year, ranked. -#}
{% macro movie_candidates(movie_titles, movies) -%}
with movie_titles as (

    select * from {{ movie_titles }}

),

movies as (

    select * from {{ movies }}

),

titles as (

    select * from {{ ref('stg_imdb__titles') }}

),

episodes as (

    select * from {{ ref('stg_imdb__episodes') }}

),

akas as (

    select * from {{ ref('stg_imdb__akas') }}

),

ratings as (

    select * from {{ ref('stg_imdb__ratings') }}

),

years as (

    select distinct unnest([year - 1, year, year + 1]) as start_year
    from movie_titles

),

episode_ids as (

    select tconst
    from episodes
    where tconst is not null

),

films as (

    select
        tconst,
        start_year,
        primary_title,
        original_title,
        genres
    from titles
    where
        is_film
        and start_year in (select years.start_year from years)
        and tconst not in (select episode_ids.tconst from episode_ids)

),

film_titles as (

    select
        tconst,
        start_year,
        primary_title as title,
        'own' as title_role
    from films
    union all
    select
        tconst,
        start_year,
        original_title as title,
        'own' as title_role
    from films
    union all
    select
        films.tconst,
        films.start_year,
        akas.title,
        'aka' as title_role
    from films
    inner join akas on films.tconst = akas.tconst

),

film_keys as (

    select
        tconst,
        start_year,
        title_role,
        {{ title_key('title') }} as title_key
    from film_titles
    where title is not null

),

pairs as (

    select
        movie_titles.edition,
        movie_titles.film_id,
        film_keys.tconst,
        case
            when movie_titles.year != film_keys.start_year then 'near_year'
            when movie_titles.title_role = 'main' and film_keys.title_role = 'own' then 'title_year'
            else 'aka_title_year'
        end as match_method,
        -- Lower is better. In another year a title that is only an alternative says least.
        case
            when movie_titles.year != film_keys.start_year
                then if(movie_titles.title_role = 'main' and film_keys.title_role = 'own', 3, 4)
            when movie_titles.title_role = 'main' and film_keys.title_role = 'own' then 1
            else 2
        end as match_rank
    from movie_titles
    inner join film_keys on movie_titles.title_key = film_keys.title_key
    where abs(movie_titles.year - film_keys.start_year) <= 1

),

-- With the year off by one a title alone is weak evidence, so the genres must not contradict it. On ml-latest-small,
-- its links taken away, that removes 5 of 13 wrong matches and 1 of 65 right ones.
agreeing_pairs as (

    select pairs.*
    from pairs
    inner join movies on pairs.edition = movies.edition and pairs.film_id = movies.movie_id
    inner join films on pairs.tconst = films.tconst
    where
        pairs.match_method != 'near_year'
        or coalesce(len(movies.genres), 0) = 0
        or len(films.genres) = 0
        or list_has_any(movies.genres, films.genres)
        or (list_contains(movies.genres, 'Children') and list_contains(films.genres, 'Family'))
        or (list_contains(movies.genres, 'Musical') and list_contains(films.genres, 'Music'))

),

best_pairs as (

    select
        edition,
        film_id,
        tconst,
        min(match_rank) as match_rank,
        arg_min(match_method, match_rank) as match_method
    from agreeing_pairs
    group by all

),

final as (

    select
        best_pairs.edition,
        best_pairs.film_id,
        best_pairs.tconst,
        best_pairs.match_method,
        best_pairs.match_rank,
        coalesce(ratings.num_votes, 0) as num_votes,
        count(*) over (partition by best_pairs.edition, best_pairs.film_id, best_pairs.match_rank) as rivals,
        row_number() over (
            partition by best_pairs.edition, best_pairs.film_id
            order by
                best_pairs.match_rank asc,
                coalesce(ratings.num_votes, 0) desc,
                length(best_pairs.tconst) asc,
                best_pairs.tconst asc
        ) as preference
    from best_pairs
    left join ratings on best_pairs.tconst = ratings.tconst

)

select * from final
{%- endmacro %}

{#- The title of each film: by link, else the candidate that no film has more right to. -#}
{% macro movie_matches(movies, candidates) -%}
with movies as (

    select * from {{ movies }}

),

candidates as (

    select * from {{ candidates }}

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
{%- endmacro %}

{#- Which ids are one film; the link of each is among the columns, or NULL. -#}
{% macro movie_groups(described) -%}
-- Two ids are one film when they link to the same title or, without links, agree in title, year and genres: the last
-- keeps "War of the Worlds (2005)" of Spielberg apart from its namesake of the same year.
with labelled as (

    select
        *,
        case
            when linked_tconst is not null then linked_tconst
            when title_key != '' and year is not null
                then title_key || '|' || year || '|' || array_to_string(list_sort(genres), ',')
            else 'id ' || movie_id
        end as film_label
    from {{ described }}

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
{%- endmacro %}
