with titles as (

    select * from {{ ref('stg_streaming__titles') }}

),

matches as (

    select * from {{ ref('int_streaming_matches') }}

),

movies as (

    select * from {{ ref('dim_movies') }}

),

ratings as (

    select * from {{ ref('stg_streaming__ratings') }}

),

-- Of a user's several ratings of a title the latest, of two in one second the higher.
latest as (

    select
        title_id,
        user_id,
        arg_max(rating, epoch_us(rated_at) * 100 + cast(rating * 10 as integer)) as rating
    from ratings
    group by title_id, user_id

),

user_scores as (

    select
        title_id,
        sum(rating) / count(*) as score,
        cast(count(*) as integer) as rating_count
    from latest
    group by title_id

),

final as (

    select
        titles.title_id,
        titles.platform,
        titles.show_id,
        titles.type,
        titles.title,
        titles.directors,
        titles.cast_names,
        titles.countries,
        titles.date_added,
        titles.release_year,
        titles.rating,
        titles.duration,
        titles.duration_type,
        titles.genres,
        titles.description,
        matches.movie_key,
        movies.title as movie_title,
        coalesce(matches.match_method, 'unmatched') as match_method,
        cast(coalesce(matches.match_confidence, 0) as decimal(3, 2)) as match_confidence,
        cast(coalesce(user_scores.score, movies.imdb_rating / 2) as decimal(4, 3)) as score,
        case
            when user_scores.score is not null then 'user_ratings'
            when movies.imdb_rating is not null then 'imdb'
            else 'none'
        end as score_source,
        coalesce(user_scores.rating_count, 0) as rating_count,
        titles.source_type,
        titles.source_title,
        titles.source_director,
        titles.source_cast,
        titles.source_country,
        titles.source_date_added,
        titles.source_rating,
        titles.source_duration,
        titles.source_listed_in,
        titles.source_description,
        titles.rules
    from titles
    left join matches on titles.title_id = matches.title_id
    left join movies on matches.movie_key = movies.movie_key
    left join user_scores on titles.title_id = user_scores.title_id

)

select * from final
