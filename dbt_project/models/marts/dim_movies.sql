with films as (

    select * from {{ ref('int_films') }}

),

titles as (

    select * from {{ ref('int_catalogue_titles') }}

),

imdb_ratings as (

    select * from {{ ref('stg_imdb__ratings') }}

),

credits as (

    select * from {{ ref('int_credits') }}

),

episodes as (

    select * from {{ ref('int_episodes') }}

),

-- Ratings of the film on a streaming platform score its streaming title, not the film of the catalogue.
fct_ratings as (

    select * from {{ ref('fct_ratings') }}
    where edition != 'streaming'

),

-- The cast are actors, actresses and, in a documentary, those who are themselves; one person once.
roles as (

    select
        tconst,
        nconst,
        case when category in ('actor', 'actress', 'self') then 'cast' else category end as role,
        min(person_name) as person_name,
        min(crew_position) as crew_position,
        min(ordering) as ordering
    from credits
    where category in ('director', 'writer', 'actor', 'actress', 'self') and person_name is not null
    group by all

),

people as (

    select
        tconst,
        list(person_name order by crew_position, ordering, nconst) filter (where role = 'director') as directors,
        list(person_name order by crew_position, ordering, nconst) filter (where role = 'writer') as writers,
        list(person_name order by ordering, nconst) filter (where role = 'cast') as principal_cast
    from roles
    group by tconst

),

series as (

    select
        parent_tconst as tconst,
        cast(count(distinct season_number) as integer) as season_count,
        cast(count(*) as integer) as episode_count
    from episodes
    where parent_tconst is not null
    group by parent_tconst

),

parents as (

    select
        episodes.tconst,
        titles.primary_title as series_title
    from episodes
    inner join titles on episodes.parent_tconst = titles.tconst

),

rating_stats as (

    select
        movie_key,
        count(*) as rating_count,
        sum(rating) as stars
    from fct_ratings
    group by movie_key

),

-- Both sums are of decimals, so that the mean is the same in every run.
mean_of_all as (

    select sum(stars) / sum(rating_count) as rating_mean
    from rating_stats

),

joined as (

    select
        films.movie_key,
        films.edition,
        films.movie_id,
        films.movie_ids,
        films.in_movielens,
        films.tconst,
        coalesce(films.title, titles.primary_title, 'unknown') as title,
        coalesce(titles.original_title, {{ move_article('trim(films.bracketed_titles[1])') }}) as original_title,
        coalesce(films.year, titles.start_year) as year,
        case
            when films.in_movielens then coalesce(films.genres, cast([] as varchar[]))
            else coalesce({{ movielens_genres('titles.genres') }}, cast([] as varchar[]))
        end as genres,
        coalesce(titles.genres, cast([] as varchar[])) as imdb_genres,
        titles.title_type,
        titles.runtime_minutes,
        titles.is_adult,
        imdb_ratings.average_rating as imdb_rating,
        imdb_ratings.num_votes as imdb_votes,
        coalesce(people.directors, cast([] as varchar[])) as directors,
        coalesce(people.writers, cast([] as varchar[])) as writers,
        coalesce(people.principal_cast, cast([] as varchar[])) as principal_cast,
        series.season_count,
        series.episode_count,
        parents.series_title,
        films.match_method,
        films.match_confidence,
        films.url,
        coalesce(rating_stats.rating_count, 0) as rating_count,
        rating_stats.stars / rating_stats.rating_count as rating_mean,
        (rating_stats.stars + {{ prior_ratings() }} * mean_of_all.rating_mean)
        / (rating_stats.rating_count + {{ prior_ratings() }}) as bayesian_rating
    from films
    cross join mean_of_all
    left join titles on films.tconst = titles.tconst
    left join imdb_ratings on films.tconst = imdb_ratings.tconst
    left join people on films.tconst = people.tconst
    left join series on films.tconst = series.tconst
    left join parents on films.tconst = parents.tconst
    left join rating_stats on films.movie_key = rating_stats.movie_key

),

final as (

    select
        movie_key,
        edition,
        movie_id,
        movie_ids,
        in_movielens,
        tconst,
        title,
        original_title,
        year,
        cast(year - year % 10 as integer) as decade,
        genres,
        imdb_genres,
        {{ main_genre('genres') }} as main_genre,
        title_type,
        runtime_minutes,
        {{ runtime_band('runtime_minutes') }} as runtime_band,
        is_adult,
        imdb_rating,
        imdb_votes,
        directors,
        writers,
        principal_cast,
        season_count,
        episode_count,
        series_title,
        match_method,
        cast(match_confidence as decimal(3, 2)) as match_confidence,
        case
            when tconst is not null then 'https://www.imdb.com/title/' || tconst || '/'
            when url is not null then url
            else 'https://www.imdb.com/find/?q=' || url_encode(concat_ws(' ', title, year)) || '&s=tt'
        end as link_url,
        case
            when tconst is not null then 'imdb_title'
            when url is not null then 'edition_url'
            else 'imdb_search'
        end as link_kind,
        cast(rating_count as integer) as rating_count,
        cast(rating_mean as decimal(4, 3)) as rating_mean,
        cast(bayesian_rating as decimal(4, 3)) as bayesian_rating
    from joined

)

select * from final
