with keyed as (

    select * from {{ ref('int_movies_keyed') }}

),

titles as (

    select * from {{ ref('stg_imdb__titles') }}

),

imdb_ratings as (

    select * from {{ ref('stg_imdb__ratings') }}

),

credits as (

    select * from {{ ref('int_credits') }}

),

names as (

    select * from {{ ref('stg_imdb__names') }}

),

fct_ratings as (

    select * from {{ ref('fct_ratings') }}

),

lead_movies as (

    select * from keyed
    where is_lead

),

movie_ids as (

    select
        movie_key,
        list(movie_id order by movie_id) as movie_ids
    from keyed
    group by movie_key

),

directors as (

    select
        credits.tconst,
        list(names.name order by credits.crew_position, credits.ordering, names.nconst) as directors
    from credits
    inner join names on credits.nconst = names.nconst
    where credits.category = 'director' and names.name is not null
    group by credits.tconst

),

rating_stats as (

    select
        movie_key,
        count(*) as rating_count,
        sum(rating) / count(*) as rating_mean
    from fct_ratings
    group by movie_key

),

joined as (

    select
        lead_movies.movie_key,
        lead_movies.edition,
        lead_movies.movie_id,
        movie_ids.movie_ids,
        lead_movies.tconst,
        coalesce(lead_movies.title, titles.primary_title, 'unknown') as title,
        coalesce(titles.original_title, {{ move_article('trim(lead_movies.bracketed_titles[1])') }}) as original_title,
        coalesce(lead_movies.year, titles.start_year) as year,
        coalesce(lead_movies.genres, cast([] as varchar[])) as genres,
        coalesce(titles.genres, cast([] as varchar[])) as imdb_genres,
        titles.title_type,
        titles.runtime_minutes,
        titles.is_adult,
        imdb_ratings.average_rating as imdb_rating,
        imdb_ratings.num_votes as imdb_votes,
        coalesce(directors.directors, cast([] as varchar[])) as directors,
        lead_movies.match_method,
        lead_movies.match_confidence,
        lead_movies.url,
        coalesce(rating_stats.rating_count, 0) as rating_count,
        rating_stats.rating_mean
    from lead_movies
    inner join movie_ids on lead_movies.movie_key = movie_ids.movie_key
    left join titles on lead_movies.tconst = titles.tconst
    left join imdb_ratings on lead_movies.tconst = imdb_ratings.tconst
    left join directors on lead_movies.tconst = directors.tconst
    left join rating_stats on lead_movies.movie_key = rating_stats.movie_key

),

final as (

    select
        movie_key,
        edition,
        movie_id,
        movie_ids,
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
        is_adult,
        imdb_rating,
        imdb_votes,
        directors,
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
        cast(rating_mean as decimal(4, 3)) as rating_mean
    from joined

)

select * from final
