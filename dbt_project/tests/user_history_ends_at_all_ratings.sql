{{ config(meta={'dagster': {'ref': {'name': 'user_features'}}}) }}
-- The last row of a user's history is that of the ratings that stand.
with history as (

    select
        user_key,
        arg_max(rating_count, feature_timestamp) as rating_count,
        arg_max(rating_mean, feature_timestamp) as rating_mean,
        arg_max(days_since_first, feature_timestamp) as days_since_first
    from {{ ref('user_features') }}
    group by user_key

),

ratings as (

    select
        user_key,
        count(*) as rating_count,
        round(sum(cast(rating * 10 as integer)) / (10.0 * count(*)), 6) as rating_mean,
        cast(max(rated_at) as date) + 1 - cast(min(rated_at) as date) as days_since_first
    from {{ ref('fct_ratings') }}
    where edition != 'streaming'
    group by user_key

),

final as (

    select
        ratings.user_key,
        ratings.rating_count as given,
        history.rating_count as in_history,
        ratings.rating_mean as mean_given,
        history.rating_mean as mean_in_history,
        ratings.days_since_first as days_given,
        history.days_since_first as days_in_history
    from ratings
    full outer join history on ratings.user_key = history.user_key
    where
        ratings.rating_count is distinct from history.rating_count
        or ratings.rating_mean is distinct from history.rating_mean
        or ratings.days_since_first is distinct from history.days_since_first

)

select * from final
