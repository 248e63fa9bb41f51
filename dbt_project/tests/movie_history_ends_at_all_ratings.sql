{{ config(meta={'dagster': {'ref': {'name': 'movie_features'}}}) }}
-- The last row of a film's history counts all of the film's ratings.
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

final as (

    select
        ratings.movie_key,
        ratings.rating_count as given,
        history.rating_count as in_history
    from ratings
    full outer join history on ratings.movie_key = history.movie_key
    where ratings.rating_count is distinct from history.rating_count

)

select * from final
