with titles as (

    select * from {{ ref('stg_streaming__titles') }}

),

film_titles as (

    select * from {{ ref('movie_titles') }}

),

films as (

    select * from {{ ref('int_films') }}

),

imdb_titles as (

    select * from {{ ref('int_catalogue_titles') }}

),

credits as (

    select * from {{ ref('int_credits') }}

),

imdb_ratings as (

    select * from {{ ref('stg_imdb__ratings') }}

),

-- "Knight and Day (Extended Edition)" is also sought without its bracket.
sought as (

    select
        title_id,
        type,
        release_year,
        [{{ title_key('name') }} for name in directors] as directors,
        case when duration_type = 'min' then duration end as minutes,
        unnest(list_distinct([
            {{ title_key('title') }},
            {{ title_key("regexp_replace(title, " ~ trailing_brackets_pattern() ~ ", '')") }}
        ])) as title_key
    from titles

),

found as (

    select distinct
        movie_key,
        title_key
    from film_titles
    where title_key in (select sought.title_key from sought) and length(title_key) > 1

),

film_directors as (

    select
        tconst,
        list(distinct {{ title_key('person_name') }}) as directors
    from credits
    where category = 'director' and person_name is not null
    group by tconst

),

described as (

    select
        found.movie_key,
        found.title_key,
        films.year,
        imdb_titles.start_year,
        imdb_titles.title_type,
        imdb_titles.runtime_minutes,
        coalesce(film_directors.directors, cast([] as varchar[])) as directors,
        coalesce(imdb_ratings.num_votes, 0) as num_votes
    from found
    inner join films on found.movie_key = films.movie_key
    left join imdb_titles on films.tconst = imdb_titles.tconst
    left join film_directors on films.tconst = film_directors.tconst
    left join imdb_ratings on films.tconst = imdb_ratings.tconst

),

pairs as (

    select
        sought.title_id,
        described.movie_key,
        described.num_votes,
        least(
            abs(sought.release_year - described.year), abs(sought.release_year - described.start_year)
        ) as year_gap,
        list_has_any(sought.directors, described.directors) as same_director,
        len(sought.directors) > 0 and len(described.directors) > 0 as both_name_directors,
        abs(sought.minutes - described.runtime_minutes) as minutes_apart
    from sought
    inner join described on sought.title_key = described.title_key
    -- A title of unknown type may be a film, and is taken for no series.
    where (sought.type = 'tv show') = coalesce(described.title_type in ('tvSeries', 'tvMiniSeries'), false)

),

judged as (

    select
        title_id,
        movie_key,
        num_votes,
        minutes_apart,
        case
            when year_gap = 0 and same_director then 'title_year_director'
            when year_gap = 0 and both_name_directors then 'title_year_other_director'
            when year_gap = 0 then 'title_year'
            when year_gap = 1 and same_director then 'near_year_director'
            when year_gap = 1 and not both_name_directors then 'near_year'
            when same_director then 'title_director'
        end as match_method
    from pairs

),

weighed as (

    select
        *,
        case match_method
            when 'title_year_director' then 0.99
            when 'near_year_director' then 0.95
            when 'title_year' then 0.90
            when 'title_director' then 0.80
            when 'near_year' then 0.65
            else 0.60
        end as confidence
    from judged
    where match_method is not null

),

-- One film may be found by several of its titles.
candidates as (

    select
        title_id,
        movie_key,
        max(confidence) as confidence,
        arg_max(match_method, confidence) as match_method,
        min(minutes_apart) as minutes_apart,
        max(num_votes) as num_votes
    from weighed
    group by title_id, movie_key

),

ranked as (

    select
        *,
        count(*) over (partition by title_id, confidence) as rivals,
        row_number() over (
            partition by title_id
            order by confidence desc, minutes_apart asc nulls last, num_votes desc, movie_key asc
        ) as preference
    from candidates

),

final as (

    select
        title_id,
        movie_key,
        match_method,
        cast(confidence - if(rivals > 1, 0.10, 0) as decimal(3, 2)) as match_confidence
    from ranked
    where preference = 1

)

select * from final
