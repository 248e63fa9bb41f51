{{ config(meta={'dagster': {'ref': {'name': 'movie_features'}}}) }}
-- The last row of a movie's history counts all of the movie's ratings that stand.
with history as (

    select
        movie_key,
        max(rating_count) as rating_count
    from {{ ref('movie_features') }}
    group by movie_key

),

ratings as (

    select
        movie_key,
        count(*) as rating_count
    from {{ ref('int_ratings_keyed') }}
    group by movie_key

),

replaced as (

    select
        movie_key,
        count(*) as rating_count
    from {{ ref('int_replaced_ratings') }}
    group by movie_key

),

final as (

    select
        ratings.movie_key,
        ratings.rating_count - coalesce(replaced.rating_count, 0) as given,
        history.rating_count as in_history
    from ratings
    left join replaced on ratings.movie_key = replaced.movie_key
    full outer join history on ratings.movie_key = history.movie_key
    where ratings.rating_count - coalesce(replaced.rating_count, 0) is distinct from history.rating_count

)

select * from final
