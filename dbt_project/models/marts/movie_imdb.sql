{{ config(
    materialized='incremental',
    incremental_strategy='delete+insert',
    unique_key=['movie_key', 'feature_timestamp'],
    full_refresh=false,
    on_schema_change='fail'
) }}

with movies as (

    select * from {{ ref('dim_movies') }}

),

loads as (

    select * from {{ source('raw', 'loads') }}

),

known as (

    {% if is_incremental() %}
    select * from {{ this }}
    {% else %}
    select
        cast(null as bigint) as movie_key,
        cast(null as timestamp) as feature_timestamp,
        cast(null as double) as imdb_rating,
        cast(null as integer) as imdb_votes
    where false
    {% endif %}

),

snapshot as (

    select max(snapshot_at) as feature_timestamp
    from loads
    where table_name = 'imdb_title_ratings'

),

current_values as (

    select
        movies.movie_key,
        snapshot.feature_timestamp,
        cast(movies.imdb_rating as double) as imdb_rating,
        movies.imdb_votes
    from movies
    cross join snapshot
    where movies.imdb_rating is not null and snapshot.feature_timestamp is not null

),

-- What was known of each film when the dump was written.
as_of_snapshot as (

    select
        known.movie_key,
        arg_max(known.imdb_rating, known.feature_timestamp) as imdb_rating,
        arg_max(known.imdb_votes, known.feature_timestamp) as imdb_votes
    from known
    cross join snapshot
    where known.feature_timestamp <= snapshot.feature_timestamp
    group by known.movie_key

),

-- A value that a newer dump merely repeats keeps the time at which it was first seen, so an equal dump adds nothing.
final as (

    select current_values.*
    from current_values
    left join as_of_snapshot on current_values.movie_key = as_of_snapshot.movie_key
    where
        current_values.imdb_rating is distinct from as_of_snapshot.imdb_rating
        or current_values.imdb_votes is distinct from as_of_snapshot.imdb_votes

)

select * from final
