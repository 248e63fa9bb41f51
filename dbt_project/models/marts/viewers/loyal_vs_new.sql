with ratings as (

    select
        user_key,
        movie_key,
        rated_at,
        cast(rating * 10 as integer) as tenths
    from {{ ref('fct_ratings') }}
    where edition != 'streaming'

),

starts as (

    select * from {{ ref('int_user_starts') }}
    where has_stayed is not null

),

movies as (

    select * from {{ ref('dim_movies') }}

),

-- What the users did within a day of their first rating: what came later is what is to be told from it.
firsts as (

    select
        ratings.user_key,
        ratings.tenths,
        starts.has_stayed,
        movies.year,
        movies.rating_count as film_ratings,
        movies.genres
    from ratings
    inner join starts on ratings.user_key = starts.user_key
    inner join movies on ratings.movie_key = movies.movie_key
    where ratings.rated_at < starts.first_rated_at + interval 1 day

),

users as (

    select
        user_key,
        has_stayed,
        count(*) as rating_count,
        sum(tenths) / (10.0 * count(*)) as rating_mean,
        sqrt(greatest(count(*) * sum(tenths * tenths) - sum(tenths) * sum(tenths), 0)) / (10.0 * count(*))
            as rating_stddev,
        count(*) filter (where tenths >= 40) / count(*) as positive_share,
        sum(year) / nullif(count(year), 0) as release_year,
        sum(film_ratings) / count(*) as film_rating_count,
        {{ per_genre("count(*) filter (where list_contains(genres, '<genre>')) / count(*) as genre_share_<g>") }}
    from firsts
    group by user_key, has_stayed

),

measures as (

    select
        has_stayed,
        unnest([
            'rating_count', 'rating_mean', 'rating_stddev', 'positive_share', 'release_year', 'film_rating_count',
            {{ per_genre("'genre_share_<g>'") }}
        ]) as measure,
        unnest([
            rating_count, rating_mean, rating_stddev, positive_share, release_year, film_rating_count,
            {{ per_genre("genre_share_<g>") }}
        ]) as value
    from users

),

-- Decimals add up to the same in any order, which doubles do not.
valued as (

    select
        has_stayed,
        measure,
        cast(value as decimal(19, 6)) as value
    from measures
    where value is not null

),

sums as (

    select
        measure,
        count(*) filter (where has_stayed) as loyal_users,
        count(*) filter (where not has_stayed) as new_users,
        cast(sum(value) filter (where has_stayed) as double) as loyal_sum,
        cast(sum(value) filter (where not has_stayed) as double) as new_sum,
        cast(sum(value * value) filter (where has_stayed) as double) as loyal_squares,
        cast(sum(value * value) filter (where not has_stayed) as double) as new_squares
    from valued
    group by measure

),

groups as (

    select
        measure,
        loyal_users,
        new_users,
        loyal_sum / loyal_users as loyal_mean,
        new_sum / new_users as new_mean,
        greatest(loyal_squares - loyal_sum * loyal_sum / loyal_users, 0) as loyal_deviations,
        greatest(new_squares - new_sum * new_sum / new_users, 0) as new_deviations
    from sums
    where loyal_users >= 2 and new_users >= 2

),

-- A spread below what decimals hold is none.
spread as (

    select
        *,
        sqrt((loyal_deviations + new_deviations) / (loyal_users + new_users - 2)) as pooled_stddev
    from groups

),

effects as (

    select
        *,
        case when pooled_stddev > 0.00001 then (loyal_mean - new_mean) / pooled_stddev end as cohens_d
    from spread

),

intervals as (

    select
        *,
        1.96 * sqrt(
            (loyal_users + new_users) / (loyal_users * new_users)
            + cohens_d * cohens_d / (2 * (loyal_users + new_users))
        ) as half_width
    from effects

),

final as (

    select
        measure,
        cast(loyal_users as integer) as loyal_users,
        cast(new_users as integer) as new_users,
        round(loyal_mean, 6) as loyal_mean,
        round(new_mean, 6) as new_mean,
        round(loyal_mean - new_mean, 6) as difference,
        round(pooled_stddev, 6) as pooled_stddev,
        round(cohens_d, 4) as cohens_d,
        round(cohens_d - half_width, 4) as cohens_d_low,
        round(cohens_d + half_width, 4) as cohens_d_high,
        case
            when abs(cohens_d) < 0.2 then 'negligible'
            when abs(cohens_d) < 0.5 then 'small'
            when abs(cohens_d) < 0.8 then 'medium'
            when cohens_d is not null then 'large'
        end as magnitude
    from intervals

)

select * from final
