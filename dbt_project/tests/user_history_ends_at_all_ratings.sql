{{ config(meta={'dagster': {'ref': {'name': 'user_features'}}}) }}
-- The last row of a user's history counts all of the user's ratings.
with history as (

    select
        user_key,
        max(rating_count) as rating_count
    from {{ ref('user_features') }}
    group by user_key

),

ratings as (

    select
        user_key,
        count(*) as rating_count
    from {{ ref('int_ratings_keyed') }}
    group by user_key

),

final as (

    select
        ratings.user_key,
        ratings.rating_count as given,
        history.rating_count as in_history
    from ratings
    full outer join history on ratings.user_key = history.user_key
    where ratings.rating_count is distinct from history.rating_count

)

select * from final
